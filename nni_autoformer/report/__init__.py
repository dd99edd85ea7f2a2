"""Results of subnets and of other networks: read, drawn, summarised."""
