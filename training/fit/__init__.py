"""`mcnet-train fit`: from a dataset to a model. It needs torch, numpy and OpenCV, and no face finder."""
