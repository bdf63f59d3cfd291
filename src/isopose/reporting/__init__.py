"""What a reader sees: tables, figures and the page that joins them, made from the scores of the other stages."""
