"""What a command does, as functions of configuration objects; the folder of a run."""
