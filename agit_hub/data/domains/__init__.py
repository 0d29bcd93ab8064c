"""What holds a domain's images: files, parquet, webdataset shards, built-in shapes, subsets."""
