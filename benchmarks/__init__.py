"""What is measured, against what, in one command each: `python -m benchmarks.NAME`; see RESULTS.md."""
