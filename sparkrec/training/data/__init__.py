"""What training reads: tables to encoded rows, and those to batches."""
