"""What is known of photos and garments: records, annotation formats, label spaces."""
