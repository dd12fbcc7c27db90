"""`mcnet-train fit`: from a dataset to a model.

Training needs torch and numpy; PyAV or OpenCV decodes clips, and OpenCV draws sheets. Only `export` looks for faces.
"""
