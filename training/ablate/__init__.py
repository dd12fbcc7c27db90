"""`mcnet-train ablate`: what the memory is for, measured by leaving it out."""
