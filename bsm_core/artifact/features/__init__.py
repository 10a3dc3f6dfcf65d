"""Files that the features of an artifact need: imputation values, risk tables and scaling."""
