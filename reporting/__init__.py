"""What a run leaves behind: its folder, its report, pictures, charts, TensorBoard."""
