"""What a reader sees: tables, figures and the page that joins them."""
