CREATE TABLE customers (id serial PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL REFERENCES customers, total int NOT NULL);
INSERT INTO customers (name) VALUES ('Ada'), ('Grace');
