"""What a run will cost: memory, ranks and nodes; and what the machine offers."""
