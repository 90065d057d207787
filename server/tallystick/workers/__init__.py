"""What goes on without a request: settling payments, sweeping what lapsed."""
