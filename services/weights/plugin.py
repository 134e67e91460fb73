"""vLLM's plugin ``rlad_weights``: called in each of its processes, in some of them more than once."""


def register() -> None:
    """Make known the weight-transfer backend ``object_store`` and the layer that keeps padding out of
    distributions, and end this process with its replica.
    """
    from vllm.distributed.weight_transfer import WeightTransferEngineFactory

    from services.base.stopping import end_with_parent
    from services.vllm import padding

    padding.register()
    if "object_store" not in WeightTransferEngineFactory._registry:  # a second registration is refused
        WeightTransferEngineFactory.register_engine(
            "object_store", "services.weights.transfer", "ObjectStoreWeightTransfer"
        )
        end_with_parent()
