package sim

// Raced lets the external tests shrink, too.
const Raced = raced
