-- The stock system, older than the shop: 300 shelves, 300,000 movements.
CREATE TABLE shelves (
    id integer PRIMARY KEY,
    place varchar(40) NOT NULL,
    pieces integer NOT NULL
) ENGINE = InnoDB;
CREATE TABLE movements (
    id integer PRIMARY KEY,
    shelf_id integer NOT NULL,
    pieces integer NOT NULL
) ENGINE = InnoDB;
INSERT INTO shelves SELECT seq, CONCAT('aisle ', seq DIV 10), 100 FROM seq_1_to_300;
INSERT INTO movements SELECT seq, 1 + seq % 300, 1 FROM seq_1_to_300000;
CREATE INDEX movements_shelf_id ON movements (shelf_id);
