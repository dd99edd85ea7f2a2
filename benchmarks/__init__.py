<<<<<<< HEAD
"""What is measured, against what, in one command each; the results stand in RESULTS.md."""
=======
"""What is measured, against what, in one command each: `python -m benchmarks.NAME`; see RESULTS.md."""
>>>>>>> steps
