"""Schedules of a monitor's runs, for the programs that keep them: emitted here, kept by others."""
