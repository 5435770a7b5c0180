"""The benchmark `amdm bench shapes`: what each model and each aggregate of them gets right, as in the paper's table."""
