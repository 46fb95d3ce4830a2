"""What every comparison needs: records that can be checked, clocks, processes, statistics."""
