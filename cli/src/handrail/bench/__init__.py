"""The benchmark: the same workloads for everybody, and the floor of the machine in the same run."""
