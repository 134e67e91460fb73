"""What the three services share: their replicas, deploying them, the cluster that they run in.

In: a service's class and arguments. Out: a Serve application, up and answering; a Ray that is joined or
started.
Called by: every room above. Knows none of the services.
"""
