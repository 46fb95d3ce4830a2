"""The quorum machine (KRaft's Raft): pure state, integers and small structs only."""
