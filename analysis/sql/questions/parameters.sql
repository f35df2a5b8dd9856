-- A row is a network as built: its counts, and the optimizers of the cells that have it.
SELECT
    results,
    arch,
    dataset,
    labels,
    image_size,
    trainable_params,
    non_trainable_params,
    trainable_params + non_trainable_params AS total_params,
    macs,
    activations,
    checkpoint_mib,
    any_value(cell_id ORDER BY cell_id) AS cell_id,
    string_agg(DISTINCT optimizer, ', ' ORDER BY optimizer) AS optimizers
FROM best
GROUP BY ALL
ORDER BY trainable_params, arch, results, dataset, labels, image_size;
