"""Vectors of floats that stay in registers: the few LLVM instructions that the gridding kernels are made of.

numba keeps small arrays in memory, which makes the inner loops three times slower than the processor allows. Here the
instructions are emitted one by one on values of type ``<width x float>``; LLVM maps them to AVX-512, AVX2 or smaller
registers. Every multiply-add is an explicit ``llvm.fma`` and nothing is marked fast, so an element is rounded in the
same way whatever the width, also with width 1 (a plain scalar).
"""

from __future__ import annotations

from typing import Any

import numba.extending
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

intrinsic: Any = numba.extending.intrinsic
"""numba's decorator; its declared type counts the typing context among the arguments of a call."""


def register_bytes() -> int:
    """Bytes of the vector registers that numba compiles for: 64 where its target's features have AVX-512, else 32.

    The target is this processor, or what NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX make of it.
    """
    _triple, _name, features = cpu_target.target_context.codegen().magic_tuple()
    return 64 if "+avx512f" in features.split(",") else 32


class Vectors:
    """Emits instructions on vectors of ``width`` floats of the LLVM type ``element`` (float or double)."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, width: int) -> None:
        self.builder = builder
        self.element = element
        self.width = width
        self.type = self._of(element)
        self.bytes = 4 if isinstance(element, ir.FloatType) else 8

    def _of(self, element: ir.Type) -> ir.Type:
        return element if self.width == 1 else ir.VectorType(element, self.width)

    def constant(self, value: float) -> ir.Value:
        """A vector of equal elements known when compiling."""
        return ir.Constant(self.type, value if self.width == 1 else [value] * self.width)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A vector of equal elements."""
        if self.width == 1:
            return scalar
        index = ir.IntType(32)
        single = self.builder.insert_element(ir.Constant(self.type, ir.Undefined), scalar, ir.Constant(index, 0))
        zeros = ir.Constant(ir.VectorType(index, self.width), [0] * self.width)
        return self.builder.shuffle_vector(single, single, zeros)

    def pointer(self, data: ir.Value, index: ir.Value) -> ir.Value:
        """Address of the vector that starts at element ``index`` of ``data``."""
        return self.builder.bitcast(self.builder.gep(data, [index]), self.type.as_pointer())

    def load(self, data: ir.Value, index: ir.Value) -> ir.Value:
        """``data[index : index + width]``; no alignment beyond that of one element is assumed."""
        return self.builder.load(self.pointer(data, index), align=self.bytes, typ=self.type)

    def store(self, value: ir.Value, data: ir.Value, index: ir.Value) -> None:
        """``data[index : index + width] = value``."""
        self.builder.store(value, self.pointer(data, index), align=self.bytes)

    def stream(self, value: ir.Value, data: ir.Value, index: ir.Value) -> None:
        """As :meth:`store`, past the caches to memory, at an address that is a multiple of the vector's bytes. Not ordered with
        other stores until a fence."""
        store = self.builder.store(value, self.pointer(data, index), align=self.bytes * self.width)
        store.set_metadata("nontemporal", self.builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """a * b + c, rounded once."""
        suffix = ("" if self.width == 1 else f"v{self.width}") + f"f{8 * self.bytes}"
        signature = ir.FunctionType(self.type, [self.type] * 3)
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.fma.{suffix}")
        return self.builder.call(function, [a, b, c])

    def cast(self, value: ir.Value, source: ir.Type) -> ir.Value:
        """A vector of ``source`` elements as a vector of this type, rounded or extended."""
        if source == self.element:
            return value
        if isinstance(source, ir.FloatType):
            return self.builder.fpext(value, self.type)
        return self.builder.fptrunc(value, self.type)


def array_data(context: Any, builder: ir.IRBuilder, array_type: Any, array: ir.Value) -> ir.Value:
    """Address of an array's first element."""
    return context.make_array(array_type)(context, builder, array).data


def element_type(context: Any, array_type: Any) -> ir.Type:
    """LLVM type of an array's elements."""
    return context.get_data_type(array_type.dtype)
