-- A shop: 20,000 customers, 2,000 products, 150,000 orders.
CREATE TABLE customers (
    id serial PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL,
    region text NOT NULL
);
CREATE TABLE categories (
    id serial PRIMARY KEY,
    name text NOT NULL,
    parent_id integer
);
CREATE TABLE products (
    id serial PRIMARY KEY,
    name text NOT NULL,
    category_id integer NOT NULL,
    price numeric(10, 2) NOT NULL,
    stock integer NOT NULL,
    weight integer NOT NULL,
    description text NOT NULL
);
CREATE TABLE orders (
    id serial PRIMARY KEY,
    customer_id integer NOT NULL,
    product_id integer NOT NULL,
    quantity integer NOT NULL,
    total numeric(10, 2) NOT NULL,
    status text NOT NULL,
    created timestamp NOT NULL
);
CREATE TABLE settings (
    name text PRIMARY KEY,
    value text NOT NULL
);
CREATE TABLE jobs (
    id integer PRIMARY KEY,
    status text NOT NULL
);

-- Regions of growing size: each has twice the customers of the one before.
INSERT INTO customers (name, email, region)
    SELECT 'Customer ' || n, 'customer' || n || '@example.com',
           'region-' || greatest(0, floor(log(2, greatest(1, n / 75.0))))::int
    FROM generate_series(1, 20000) n;
INSERT INTO categories (name, parent_id)
    SELECT 'Category ' || n, CASE WHEN n > 1 THEN n / 2 END FROM generate_series(1, 40) n;
INSERT INTO products (name, category_id, price, stock, weight, description)
    SELECT 'Product ' || n, 1 + n % 40, 1 + n % 90, 1000000, 100 + n % 900, repeat('A fine thing for every home. ', 4)
    FROM generate_series(1, 2000) n;
INSERT INTO orders (customer_id, product_id, quantity, total, status, created)
    SELECT 1 + n % 20000, 1 + n % 2000, 1 + n % 3, 1 + n % 300, 'shipped',
           timestamp '2026-01-01' + n * interval '1 minute'
    FROM generate_series(1, 150000) n;
INSERT INTO settings (name, value) VALUES
    ('feed_interval_seconds', '0'), ('delivery_interval_days', '7'), ('password_rounds', '20000'), ('rates_updated', '2026-01-01');
INSERT INTO jobs (id, status) SELECT n, 'done' FROM generate_series(1, 50) n;

CREATE INDEX orders_customer_id ON orders (customer_id);
CREATE INDEX products_category_id ON products (category_id);
CREATE INDEX customers_region ON customers (region);
