"""Width search: joint candidates of the widths of all layers are cut, scored and mutated."""
