"""COCO-MIG, a benchmark of positions and colours of two to six instances in a picture (MIGC, arXiv 2402.05408)."""
