//! PL011 UART as a guest sees it.
