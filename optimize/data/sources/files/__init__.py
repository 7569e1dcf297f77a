"""Read bars from CSV, Parquet, Excel, JSON and other files."""
