"""Width search: joint candidates are cut, scored and mutated."""
