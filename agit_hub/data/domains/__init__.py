"""Domains by how their images are stored: files, parquet or webdataset shards, built-in shapes."""
