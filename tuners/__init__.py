"""KerasTuner side of the library."""
