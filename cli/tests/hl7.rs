//! The command line's HL7 tools.
