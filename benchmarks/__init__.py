"""The load command line and its reports: public clients only."""
