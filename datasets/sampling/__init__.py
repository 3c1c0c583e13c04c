"""Which image comes when: class centroids, sampling orders, several sources."""
