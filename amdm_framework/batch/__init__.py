"""Many scenes: jobs, the drawer that draws groups of them, engines that run drawers, and the ledger of what is done."""
