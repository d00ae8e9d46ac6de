"""Parquet files: Hugging Face layouts, and what people keep beside them."""
