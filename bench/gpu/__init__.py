"""The ops on a GPU beside other packages: ``python -m bench.gpu``; with tests, ``bench/gpu.sh``."""
