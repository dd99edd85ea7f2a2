"""What is measured, against what, in one command each; the results stand in RESULTS.md."""
