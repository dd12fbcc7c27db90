"""`mcnet-train prepare`: from raw videos, pictures and shards to a dataset of clips with landmarks."""
