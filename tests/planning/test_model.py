"""The cost model: what it must say whatever the constants are, and figures that can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.planned_work import work

from radps_mpi.decomposition import assign_teams, settle_teams, slowest_team
from radps_mpi.errors import DataError
from radps_mpi.planning import model, scaling
from radps_mpi.planning.fitting import MeasuredRun, fit_machine, quickest
from radps_mpi.planning.learning import corrections_from
from radps_mpi.planning.machine_constants import Machine
from radps_mpi.planning.memory import rank_memory
from radps_mpi.planning.model import FIRST, INGEST, MAJOR, MINOR, PRODUCTS, STARTING, Layout, predict
from radps_mpi.planning.sharing import Sharing
from radps_mpi.planning.storage import Storage
from radps_mpi.planning.work import Work

MACHINE = Machine(cores_per_node=64, memory_per_node_bytes=512 * 10**9)
LARGE = {"ny": 2000, "nx": 2000, "padded_v": 2560, "padded_u": 2560, "plane_v": 2560, "plane_u": 2560}


def test_twice_the_ranks_take_half_the_time_of_what_is_shared_evenly() -> None:
    quick_disk = replace(MACHINE, disk_write_bytes_s=1e15, file_system_bytes_s=1e15)
    one, two = (predict(work(channels=512), quick_disk, Layout(n)).part(PRODUCTS) for n in (1, 2))
    fixed = MACHINE.products_fixed_s
    assert (two.seconds - fixed) == pytest.approx((one.seconds - fixed) / 2, rel=0.1)
    assert two.busy_rank_seconds == pytest.approx(one.busy_rank_seconds)


def test_planes_are_written_while_others_are_computed_and_a_part_of_that_shows() -> None:
    computing, writing, both = (
        predict(work(), replace(MACHINE, disk_write_bytes_s=disk, product_ns_per_pixel=pixel), Layout(1)).part(PRODUCTS).seconds
        for disk, pixel in ((1e15, 40.0), (0.5e9, 0.0), (0.5e9, 40.0))
    )
    assert max(computing, writing) < both < 0.95 * (computing + writing)


def test_an_iteration_costs_less_for_each_pixel_of_a_large_mask_than_of_a_small_one() -> None:
    assert model.iteration_growth(10_000, 512 * 512) == 1.0
    assert model.iteration_growth(1_000_000, 1024 * 1024) == pytest.approx(100**0.65 * 4**0.1)
    assert model.iteration_growth(10_000, 1024 * 1024) > model.iteration_growth(10_000, 256 * 256)


def test_integrations_cost_survey_and_ingest_alike_and_are_shared_in_blocks() -> None:
    def seconds(ranks: int, **changes: Any) -> list[float]:
        prediction = predict(work(from_measurement_sets=True, **changes), slow, Layout(ranks))
        return [prediction.part(name).seconds for name in (STARTING, INGEST)]

    slow = replace(MACHINE, frames_us_per_time=1e6)
    none = replace(MACHINE, frames_us_per_time=0.0)
    for ranks, times, of_a_rank in ((1, 40, 40), (2, 40, 40), (1, 1000, 1000), (2, 1000, 512), (4, 1000, 256), (64, 1000, 256)):
        without = predict(work(from_measurement_sets=True, times=times), none, Layout(ranks))
        expected = [without.part(name).seconds + of_a_rank for name in (STARTING, INGEST)]
        assert seconds(ranks, times=times) == pytest.approx(expected, rel=1e-6)
    from_store = predict(work(times=1000), slow, Layout(1))
    assert from_store.part(INGEST).seconds == 0.0 and from_store.part(STARTING).seconds < 100.0


def test_commits_are_told_from_the_records_of_their_channels_on_any_number_of_ranks() -> None:
    bare = replace(MACHINE, commit_fixed_s=0.5, commit_us_per_channel=10.0)
    for ranks in (1, 64):
        runs = []
        for cycles, channels in ((0, 16), (3, 64)):
            each = 0.004 + 10e-6 * channels
            spans = {"exchange records, replace manifest": ranks * (2 + 3 * cycles) * each, "commit": 1e3}
            runs.append(MeasuredRun(work(cycles=cycles, channels=channels), Layout(ranks), {}, spans, 10**9))
        assert fit_machine(bare, runs).commit_fixed_s == pytest.approx(0.004)
    assert fit_machine(bare, [replace(run, span_seconds={}) for run in runs]).commit_fixed_s == 0.5


def test_blocks_that_do_not_share_out_evenly_are_named_as_what_holds_a_part_up() -> None:
    quick_disk = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, memory_bytes_s=1e13)
    part = predict(work(), quick_disk, Layout(20)).part(FIRST)  # 30 blocks: two rounds, the second of 10
    assert part.limit == "uneven blocks"
    assert part.seconds > 20 / 30 * 2 * part.busy_rank_seconds / 20


def test_few_blocks_with_line_hold_up_major_cycles_and_row_groups_help() -> None:
    quick_disk = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, memory_bytes_s=1e13)
    many_rows = [work(groups=groups, rows=4_000_000) for groups in (1, 16)]
    alone, shared = (predict(w, quick_disk, Layout(64)).part(MAJOR) for w in many_rows)
    assert alone.limit == "fewer blocks than ranks"
    assert shared.seconds < alone.seconds


def test_major_cycles_are_predicted_in_halves_of_blocks_where_the_program_takes_them() -> None:
    quick = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, memory_bytes_s=1e13)
    narrow = work(line_channels=8, line_blocks=2, line_halves=2)  # a line across the border of two blocks
    cut, whole = (predict(w, quick, Layout(1)).part(MAJOR) for w in (narrow, replace(narrow, line_halves=4)))
    assert cut.seconds < whole.seconds
    assert cut.busy_rank_seconds < whole.busy_rank_seconds
    wide = work(line_channels=480, line_blocks=30, line_halves=60)  # all of the cube: nothing to leave out
    assert predict(wide, quick, Layout(1)).part(MAJOR).busy_rank_seconds > 10 * whole.busy_rank_seconds
    on_four = [predict(work(line_halves=halves), quick, Layout(4)).part(MAJOR).seconds for halves in (4, 400)]
    assert on_four[0] < on_four[1], "two blocks keep two ranks busy, four halves keep four"


def test_only_ranks_that_have_a_block_move_memory() -> None:
    slow_memory = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, memory_bytes_s=10e9)
    wide = work(channels=80_000, native_channels=80_000, line_channels=200, line_blocks=13, line_halves=25, **LARGE)
    few, alone = (predict(wide, slow_memory, Layout(ranks, 1, nodes)).part(MAJOR) for ranks, nodes in ((4096, 64), (25, 25)))
    assert few.limit == "fewer blocks than ranks"
    assert few.seconds == pytest.approx(alone.seconds, rel=0.01), "25 halves on 64 nodes are as far apart as on 25"
    crowded = predict(wide, slow_memory, Layout(64)).part(MAJOR)
    assert crowded.limit == "memory bandwidth", "all of them on one node, and still fewer than ranks"


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 16, 30, 64, 100, 1000])
@pytest.mark.parametrize(("blocks", "groups"), [(1, 1), (2, 8), (13, 1), (30, 4), (30, 64), (480, 1)])
def test_blocks_are_shared_as_the_program_shares_them(ranks: int, blocks: int, groups: int) -> None:
    teams, on_a_node = assign_teams([1.0] * blocks, ranks, groups), min(ranks, 16)
    sharing = Sharing(blocks, ranks, on_a_node, groups)
    assert sharing.slowest == pytest.approx(slowest_team([1.0] * blocks, teams), rel=1e-9)
    at_work = np.concatenate([np.arange(team.first, team.stop) for team in teams])
    fullest = np.bincount(at_work // on_a_node).max()  # teams lie together, the model spreads them over nodes
    assert fullest / 2 <= sharing.busy_on_a_node <= 2 * fullest


def test_cached_visibilities_are_of_use_to_a_line_only_where_its_blocks_stay() -> None:
    line = [1.0] * 4 + [0.0] * 26
    for ranks in (1, 2, 8, 60):
        before, after = (Sharing(blocks, ranks, ranks, 4) for blocks in (30, 4))
        teams = assign_teams([1.0] * 30, ranks, 4)
        owner = {block: team.first for team in teams for block in team.blocks}
        settled = settle_teams(line, ranks, 4, teams)
        assert before.moves_to(after) == any(owner[block] != team.first for team in settled for block in team.blocks)


def test_the_first_major_cycle_in_halves_or_by_other_ranks_reads_again() -> None:
    quick = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, read_ns_per_sample=1e4)
    line = work(line_channels=20, line_blocks=2, line_halves=4, cycles=1)  # of 30 blocks
    again = 1e-5 * line.rows * (17.0 * 2 + 16)
    assert predict(line, quick, Layout(1)).part(MAJOR).busy_rank_seconds < 0.1 * again, "blocks of a single rank stay cached"
    assert predict(line, quick, Layout(2)).part(MAJOR).busy_rank_seconds > 2 * again, "the second half of the line moves"
    twice = replace(line, cycles=2)
    assert predict(twice, quick, Layout(2)).part(MAJOR).busy_rank_seconds < 2.5 * again, "and is cached where it has gone"
    in_halves = work(line_channels=8, line_blocks=2, line_halves=2, cycles=1)
    assert predict(in_halves, quick, Layout(1)).part(MAJOR).busy_rank_seconds > again


def test_what_memory_does_not_hold_is_read_from_the_file_system() -> None:
    slow_disk = replace(MACHINE, disk_read_bytes_s=1e7, disk_write_bytes_s=1e12)
    small = work()
    no_disk = replace(slow_disk, disk_read_bytes_s=1e15)
    for part in (MINOR, MAJOR, PRODUCTS):
        assert predict(small, slow_disk, Layout(4)).part(part).seconds == predict(small, no_disk, Layout(4)).part(part).seconds
    large = work(channels=80_000, native_channels=80_000, line_channels=20_000, line_blocks=1250, line_halves=2500)
    little = 20 * 10**9  # of 170 GB
    for part in (MINOR, MAJOR, PRODUCTS):
        slow, quick = (
            predict(large, replace(m, memory_per_node_bytes=little), Layout(4)).part(part) for m in (slow_disk, no_disk)
        )
        assert slow.seconds > 2 * quick.seconds and slow.limit == "file system"


def test_a_store_from_before_is_read_once_and_planes_of_other_nodes_each_time() -> None:
    store = Storage(MACHINE, 4, 1e9, 2e9)
    assert (store.held, store.held_of_others) == (1.0, 0.25)
    assert Storage(MACHINE, 1, 1e9, 4e9).held == 0.25
    assert Storage(MACHINE, 1, -1e9, 4e9).held == 0.0, "ranks take all"
    assert store.read_s(4e9) == 4e9 / (4 * MACHINE.disk_read_bytes_s)
    assert store.read_s(4e9, store.held) == 0.0
    slow_disk = replace(MACHINE, disk_read_bytes_s=1e6)
    assert predict(work(), slow_disk, Layout(4)).part(FIRST).limit == "file system"
    ingested = work(from_measurement_sets=True)
    assert predict(ingested, slow_disk, Layout(4)).part(FIRST).limit != "file system", "this job has just written it"


def test_teams_pay_for_what_they_send() -> None:
    quick = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12, memory_bytes_s=1e14)
    slow_network = replace(quick, network_bytes_s=1e7)
    natural, briggs = (work(channels=16, rows=4_000_000, groups=16, line_blocks=1, density=d) for d in (False, True))

    def sending_s(planned: Work, part: str) -> float:
        slow, none = (predict(planned, replace(quick, network_bytes_s=b), Layout(4)).part(part).seconds for b in (1e7, 1e15))
        return slow - none

    grids_s = 2 * natural.grid_bytes / 1e7
    assert sending_s(natural, FIRST) == pytest.approx(2 * grids_s, rel=0.01), "two grids in two steps"
    assert sending_s(briggs, FIRST) == pytest.approx(2 * (grids_s + 2 * briggs.density_bytes / 1e7), rel=0.01)
    assert predict(briggs, slow_network, Layout(4)).part(FIRST).limit == "messages"


def test_threads_quicken_restoring_and_take_memory() -> None:
    quick_disk = replace(MACHINE, disk_write_bytes_s=1e15, file_system_bytes_s=1e15, disk_read_bytes_s=1e15)
    line = work(line_channels=480, line_blocks=30, line_halves=60)
    one, eight = (predict(line, quick_disk, Layout(1, threads)) for threads in (1, 8))
    assert eight.part(PRODUCTS).seconds < 0.8 * one.part(PRODUCTS).seconds
    dirty = [predict(work(cycles=0), quick_disk, Layout(1, threads)).part(PRODUCTS).seconds for threads in (1, 8)]
    assert dirty[0] == dirty[1], "nothing to convolve"
    assert 7 * 1.0e6 < eight.memory.peak_bytes - one.memory.peak_bytes < 7 * 1.25e6, "1.0 to 1.2 MB were measured"


def test_part_of_a_block_reads_no_more_than_the_block_where_the_store_has_more_channels_than_the_image() -> None:
    few = work(channels=64, native_channels=8000)
    assert few.in_blocks_of(8, 4).native_per_block == pytest.approx(8.5)
    assert work().in_blocks_of(8, 4).native_per_block == 9.0, "eight of its own, one for the interpolation"


def test_what_a_rank_is_told_to_use_decides_what_it_keeps() -> None:
    told = [replace(work(), memory_per_rank_bytes=nbytes) for nbytes in (10**8, 10**11)]
    little, much = (predict(w, MACHINE, Layout(1)) for w in told)
    assert little.memory.cache_bytes == 0.25e8 < much.memory.cache_bytes
    assert little.part(MAJOR).seconds > much.part(MAJOR).seconds, "visibilities are read again in each cycle"


def test_minor_cycles_by_channel_use_more_ranks_than_by_block() -> None:
    quick_disk = replace(MACHINE, disk_write_bytes_s=1e12, disk_read_bytes_s=1e12)
    by_channel = predict(work(), quick_disk, Layout(30)).part(MINOR).seconds
    by_block = predict(work(), quick_disk, Layout(30), minor_by_block=True).part(MINOR).seconds
    assert by_block > 5 * by_channel


def test_a_dirty_image_has_no_cycles() -> None:
    dirty = predict(work(cycles=0, iterations=0, line_channels=0, line_blocks=0), MACHINE, Layout(4))
    assert dirty.part(MINOR).seconds == dirty.part(MAJOR).seconds == 0.0
    assert dirty.part(FIRST).seconds > 0.0


def test_memory_per_rank_does_not_grow_with_channels_but_for_their_records() -> None:
    small, large = (rank_memory(work(channels=n), MACHINE, 1, 0.0) for n in (800, 80_000))
    assert large.parts_bytes == small.parts_bytes
    assert large.peak_bytes - small.peak_bytes < 80_000 * 5000


def test_a_grid_is_as_large_as_the_gridder_makes_it() -> None:
    from radps_mpi.constants import ARCSEC_RAD
    from radps_mpi.data.geometry import ImageGeometry
    from radps_mpi.imaging.gridding import Gridder

    gridder = Gridder(ImageGeometry(300, 256, ARCSEC_RAD, ARCSEC_RAD, 0.0, 0.0), nlane=16, reach=20_000.0)
    plane = gridder.identity["plane"]
    planned = work(
        ny=256, nx=300, support=gridder.window.support, guard=gridder.guard, padded_v=gridder.size[0],
        padded_u=gridder.size[1], plane_v=plane[0], plane_u=plane[1],
    )
    assert planned.grid_bytes == gridder.new_grid().nbytes


def test_the_recommended_job_fits_and_is_not_much_dearer_than_the_cheapest() -> None:
    curve = scaling.cost_curve(work(), MACHINE, 64)
    best = scaling.recommended(work(), curve, MACHINE)
    assert scaling.fits(work(), best, MACHINE)
    assert best.core_hours <= scaling.WORTH_PAYING * min(p.core_hours for p in curve)
    assert [(p.layout.nodes, p.cores) for p in curve[:7]] == [(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64)]
    assert [p.layout.nodes for p in curve[6:]] == [1, 2, 4, 8, 16, 32, 64]


def test_a_small_job_is_not_recommended_a_whole_node() -> None:
    small = work(channels=16, ny=64, nx=64, rows=500, cycles=0, iterations=0, line_channels=0, line_blocks=0)
    best = scaling.recommended(small, scaling.cost_curve(small, MACHINE, 4), MACHINE)
    assert best.cores == 1
    assert scaling.recommended(work(), scaling.cost_curve(work(), MACHINE, 4), MACHINE).cores > 1


def test_a_part_of_a_node_that_has_too_little_memory_is_not_offered() -> None:
    large = work(**LARGE)
    assert scaling.cost_curve(large, MACHINE, 1)[0].cores == 1
    needs = rank_memory(large, MACHINE, 1, 0.0).peak_bytes
    short = replace(MACHINE, memory_per_node_bytes=int(60 * needs))  # less than 64 ranks take
    curve = scaling.cost_curve(large, short, 1)
    assert curve[0].cores == 2 and curve[0].layout.ranks == 1
    assert all(scaling.fits(large, p, short) for p in curve)


def test_memory_takes_cores_too() -> None:
    short = replace(MACHINE, memory_per_node_bytes=32 * 10**9)
    needs = predict(work(), short, Layout(1)).memory.peak_bytes
    assert predict(work(), short, Layout(1)).cores == -(-64 * needs // 32e9) > 1


def test_threads_that_are_chosen_are_kept() -> None:
    curve = scaling.cost_curve(work(), MACHINE, 2, threads=4)
    assert {p.layout.threads for p in curve} == {4}
    assert [(p.layout.ranks, p.layout.nodes) for p in curve[:2]] == [(1, 1), (2, 1)]


def test_fewer_ranks_per_node_are_taken_where_memory_is_short() -> None:
    short = replace(MACHINE, memory_per_node_bytes=20 * 10**9)
    large = work(**LARGE)
    best = scaling.best_on(large, short, 1)
    assert scaling.fits(large, best, short)
    assert best.layout.ranks < 64 and best.layout.ranks * best.layout.threads <= 64


def test_memory_that_ranks_are_given_counts_as_what_they_need() -> None:
    given = work(memory_per_rank_bytes=MACHINE.memory_per_node_bytes // 3)
    assert max(p.layout.ranks_per_node for p in scaling.cost_curve(given, MACHINE, 2)) == 2
    beyond = work(memory_per_rank_bytes=2 * MACHINE.memory_per_node_bytes)
    best = scaling.recommended(beyond, scaling.cost_curve(beyond, MACHINE, 2), MACHINE)
    assert not scaling.fits(beyond, best, MACHINE)


def test_constants_are_found_again_in_the_times_that_they_make() -> None:
    true = replace(MACHINE, read_ns_per_sample=20.0, transform_ns_per_point=0.7, weight_ns_per_visibility=9.0)
    found = fit_machine(MACHINE, [measured_run(true, work(ny=n, nx=n)) for n in (256, 512)])
    for name in ("read_ns_per_sample", "transform_ns_per_point", "weight_ns_per_visibility"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=0.02)


def test_gridding_too_quick_to_be_measured_leaves_the_cost_of_a_plane_as_it_is() -> None:
    nothing = replace(MACHINE, grid_ns_per_tap=0.0)
    continuum = replace(measured_run(MACHINE, work()), work=work(continuum=True), span_seconds={"grid": 0.1})
    assert fit_machine(nothing, [continuum]).plane_per_lane == MACHINE.plane_per_lane
    assert fit_machine(MACHINE, [continuum]).plane_per_lane != MACHINE.plane_per_lane


def measured_run(machine: Machine, planned: Work) -> MeasuredRun:
    """What a machine of such constants would have measured."""
    predicted = predict(planned, machine, Layout(1))
    visibilities = 1e-9 * planned.blocks * planned.rows * planned.lanes
    native = 1e-9 * planned.blocks * planned.rows * planned.native_per_block * planned.polarisations
    cost = model._Costs(planned, machine, Layout(1), 0, Storage(machine, 1, 1e12, 1e9))
    spans = {
        "read": machine.read_ns_per_sample * (native + visibilities),
        "weight": machine.weight_ns_per_visibility * visibilities,
        "transform": (2 * planned.blocks + 2 * planned.cycles * planned.line_blocks) * cost.transform_s(),
    }
    seconds = {part.name: part.seconds for part in predicted.parts}
    return MeasuredRun(planned, Layout(1), seconds, spans, int(predicted.memory.peak_bytes))


def test_a_measured_run_corrects_the_next_plan() -> None:
    run = measured_run(MACHINE, work())
    slow = replace(run, seconds={name: 1.5 * spent for name, spent in run.seconds.items()})
    corrections = corrections_from([slow], MACHINE)
    again = predict(work(), MACHINE, Layout(1), corrections)
    assert again.part(FIRST).seconds == pytest.approx(slow.seconds[FIRST])
    assert corrections.memory == pytest.approx(1.0)


def test_times_of_another_processor_teach_nothing_but_memory_does() -> None:
    run = replace(measured_run(MACHINE, work()), processor="Other @ 2 GHz", peak_memory_bytes=10**10)
    corrections = corrections_from([run], MACHINE)
    assert corrections.seconds == {} and corrections.memory > 2.0
    assert corrections_from([run], replace(MACHINE, processor=run.processor)).seconds.keys() >= {FIRST, PRODUCTS}


def test_of_repeats_the_quickest_parts_count() -> None:
    run = measured_run(MACHINE, work())
    disturbed = replace(run, seconds={name: spent + 1.0 for name, spent in run.seconds.items()})
    assert quickest([disturbed, run]).seconds == run.seconds


def test_work_survives_json_and_other_versions_of_it_are_refused() -> None:
    assert Work.from_dict(work().to_dict()) == work()
    with pytest.raises(DataError, match="other quantities"):
        Work.from_dict({**work().to_dict(), "colour": 1})
    with pytest.raises(DataError, match="other quantities"):
        Work.from_dict({**work().to_dict(), "rows": "many"})


def test_fewer_channels_scale_what_goes_by_channel() -> None:
    half = scaling.of_channels(work(), 240)
    assert (half.channels, half.line_channels, half.line_blocks, half.line_halves, half.rows) == (240, 15, 1, 2, 50_000)
    assert half.product_bytes == work().product_bytes // 2


def test_scaling_to_4096_ranks_names_what_is_lost_where() -> None:
    cube = work(channels=80_000, native_channels=80_000, line_channels=200, line_blocks=13, line_halves=25, **LARGE)
    strong = scaling.strong_scaling(cube, MACHINE, 4096)
    assert [strong[0].layout.ranks, strong[-1].layout.ranks, strong[-1].layout.nodes] == [1, 4096, 64]
    assert strong[-1].part(MAJOR).limit == "fewer blocks than ranks"
    assert strong[-1].seconds < strong[0].seconds / 50
    gains = {v.name: v.prediction.seconds for v in scaling.variants(cube, MACHINE, 4096)}
    assert gains["blocks of 8 channels"] < gains["as it is"]
