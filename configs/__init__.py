"""The YAML files of the runs, shipped with the wheel."""
