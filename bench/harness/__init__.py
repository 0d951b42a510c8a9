"""The benchmark behind `bench/run.py`. Standard library only: it runs before anything is installed."""
