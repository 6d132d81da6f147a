"""What runs in the process of an SDK: `Service(executor="process")`."""
