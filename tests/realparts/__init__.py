"""The real servers of the tests, the benchmarks and the demo: where they are found, how they start, how they are hurt.

`parts` finds a program, `obtain` gets what is missing, `server` holds what all servers share, and one module each knows
how to run etcd and kube-apiserver (`kube`), Prometheus, Alertmanager and Envoy. `fixtures` offers them to pytest.
"""
