"""Who is clean: loss mixtures, class prototypes and the partitions that follow from them. numpy and torch only."""
