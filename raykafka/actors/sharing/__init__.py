"""Share groups at the leaders of their partitions (KIP-932): who has which record."""
