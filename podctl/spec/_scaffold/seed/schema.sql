CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer text NOT NULL,
    item text NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'shipped', 'delivered', 'cancelled'))
);
