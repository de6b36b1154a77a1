"""The carried log as a server of a cluster forwards it to followers: records, barriers, snapshots."""
