"""`run.py reflex`: does the observer name the right cause? See bench/README.md."""
