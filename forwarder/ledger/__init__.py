"""The pure bookkeeping of the journal, and the formats of what it stores."""
