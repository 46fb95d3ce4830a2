"""Members of a consumer group that are killed, paused, joined and left, and who owned what when."""
