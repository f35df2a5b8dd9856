-- A row is a cell's winner: accuracy beside parameters, time per epoch and latency.
SELECT
    results,
    cell_id,
    cell,
    arch,
    dataset,
    labels,
    role,
    n,
    image_size,
    trainable_params,
    macs,
    test_top1_mean,
    test_top1_sd,
    epoch_time_s_mean,
    epoch_time_s_sd,
    train_time_s_mean,
    train_time_s_sd,
    latency_ms_p50_mean,
    latency_ms_p50_sd,
    batch16_latency_ms_mean,
    batch16_latency_ms_sd
FROM best
ORDER BY test_top1_mean DESC NULLS LAST, results, config_id;
